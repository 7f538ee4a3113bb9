"""Makers of assets: what they write is committed or shown; nothing imports them."""
