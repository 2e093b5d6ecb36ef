"""The hub: committed events to whoever watches, in this process and across processes."""
