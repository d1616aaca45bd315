"""Random worlds and random runs, compared with a simple model; a failure is a script that can be run again.

:mod:`.graphs` names content in a few words, :mod:`.expectation` is the model, :mod:`.passing` and :mod:`.fatal`
are the faults that have to be survived and those that cannot, :mod:`.scenario` takes steps and judges each run,
:mod:`.machine` lets hypothesis choose the steps. ``python -m tests.faults.stateful --minutes 30`` runs for a time
and counts, ``python -m tests.faults.replay FILE`` takes the steps of a failure again.
"""
