"""Evaluation items inside training text: found, weighed by how telling the match is, and shown beside the item.

- ``options``: what the user sets.
- ``records``, ``sets``: evaluation files of any usual shape -> questions, answers and passages.
- ``rarity``, ``index``: what each word of a question is worth, and where its n-grams are looked up.
- ``scan``, ``evidence``: text -> hits, each with its score; a pure function of a document.
- ``judge``: hits of the whole build -> leaks, and the rows of the report.
"""
