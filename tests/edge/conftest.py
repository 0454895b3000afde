"""Tests of the edge play on a stage."""

from tests.stage import stage as stage
