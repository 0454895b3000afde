"""Values and rules of Dragoman: no I/O, no clock, no ids made here; the standard library and msgspec only."""
