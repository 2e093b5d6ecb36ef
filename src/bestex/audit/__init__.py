"""The audit: proves from what is stored that every order went as it should. Pure: it sees the domain only, and reads
what it judges through `Evidence`, be it a database, an export, or objects of this process.
"""
