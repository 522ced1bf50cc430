"""Learning algorithms: `declarations.LEARNERS` names them for the spec, one module each implements `perennial.learner.Learner`.

A spec's `learner` key names one. Importing this package, or any module of it, imports neither LightGBM nor scikit-learn:
a learner imports its library in the functions that use it.
"""
