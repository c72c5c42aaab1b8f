"""Personal data and secrets: where they stand in a column of texts, and what replaces them.

``find.find_spans`` finds, ``redact.edits`` says what becomes of it, ``options`` holds the user's choices.

Every finder works in two steps: a scan of the whole column as flat bytes names the few places worth a look (an ``@``,
a run of digits, a long word that mixes letters and digits), and only there a bounded pattern and the kind's own rules
decide: a checksum, the table of telephone numbers, a word such as "phone" beside it. Nothing is ever matched by a
pattern without a bound, so the time is linear in the text whatever the text is.
"""
