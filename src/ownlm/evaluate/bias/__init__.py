"""Bias suites: StereoSet, BBQ, CrowS-Pairs and WinoBias, for models that go on from texts and for masked ones.

Each module keeps apart what a model finds likely, and what its paper makes of that: the second half is held to the
papers' own figures.
"""
