"""Helpers that the stages share."""
