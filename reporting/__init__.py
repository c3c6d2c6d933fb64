"""Readers of result folders, tables and figures. Works on files only."""
