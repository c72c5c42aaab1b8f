"""Watching a model: evaluations kept in the store, trends, and an alert where a score leaves its band.

history.py   a model and its measurements as a record of the store
trends.py    records as series, with the band that held at each, and alerts
look.py      one look at a model: is it due, did it change, what came of it
loop.py      looks one after another, until a signal
webhook.py   alerts to an address that the user named
"""
