"""Whether a task's items stand in what a model was trained on, and what that does to its score.

- ``datasets``: a data set's folder, a run's, a model's or plain files -> the documents that were trained on.
- ``lineage``: a model -> the data sets it names, and whether they are still here and the same.
- ``find``: items and documents -> each item seen in full, in part, not at all, or not to be judged, with the text.
- ``effect``: a measurement -> its score on the items seen and on the others, and what the difference means.

What counts as the same text is decided where data sets are built (data/contamination).
"""
