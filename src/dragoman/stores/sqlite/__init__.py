"""One SQLite file: tapes, conversations, runs, projects and credentials. One process writes its tapes."""
