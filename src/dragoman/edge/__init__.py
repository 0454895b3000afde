"""The only place where HTTP meets the runtime."""
