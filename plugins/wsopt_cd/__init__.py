"""The CD family plugin."""
