"""How good a model is, how sure that is, and beside what: metrics, intervals, baselines, and files of predictions."""
