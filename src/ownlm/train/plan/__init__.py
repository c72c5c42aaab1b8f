"""What a run will take, before it begins: parameters, memory, speed, time and cost.

probe.py    one and two of the model's layers, run for real on this machine
memory.py   the most memory that a step holds, from the probe or by arithmetic
cluster.py  machines that are not here: what a model would need there
report.py   all of it together, and what to change where it does not fit
"""
