"""Who may, and how often."""
