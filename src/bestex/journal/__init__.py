"""The event log and its writer: adapters of the Journal port, and the only code that speaks SQL."""
