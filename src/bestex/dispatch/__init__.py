"""Adapters of the `Dispatcher` port: what tells the workers that orders wait."""
