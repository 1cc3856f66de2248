"""Finished runs beside each other and beside published numbers: tables and figures."""
