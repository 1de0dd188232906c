"""Measurements that a person starts (``make bench``); nothing imports this folder."""
