"""The engine for several servers: tapes, leases and credentials in a PostgreSQL database that they share."""
