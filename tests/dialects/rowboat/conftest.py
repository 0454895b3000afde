"""Tests of this wire through the whole server play on a stage."""

from tests.stage import stage as stage
