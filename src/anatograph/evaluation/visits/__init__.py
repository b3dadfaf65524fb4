"""Targets over several visits."""
