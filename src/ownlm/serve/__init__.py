"""HTTP: the API that every client of OpenAI's speaks, with its keys, limits, metrics and an orderly end.

A request comes in from the outside to the inside: the wire (protocol.py), the edge that counts, logs and refuses while
stopping (edge.py), who may (security.py), how much (bounds.py), what it says (reading.py and schemas/), and the routes,
which hand it to the engine's thread (engine/worker.py).
"""
