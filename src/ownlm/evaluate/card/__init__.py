"""What a model card states, gathered from what the model, its training and its evaluations left behind.

- ``facts``: a model's folder -> shape, lineage, training, data sets with their manifests, licences as far as known.
- ``evaluations``: folders of evaluations -> those that measured these very weights.

report/model_card.py writes it down. What is not known is stated as such, and what only people know is left to the owner.
"""
