"""Scores, mistakes and what the network looked at
===============================================

One training, and the figures that the report page is made of. The cells are synthetic.
"""

from kmedclf import CNNClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import evaluate, plots

X, y = make_blood_cells(500, random_state=0)
X_test, y_test = make_blood_cells(200, random_state=1)
plots.samples(X, y)

# %%
# The learning curves.

cnn = CNNClassifier(recipe="fast", filters=16, epochs=10, random_state=0).fit(X, y)
plots.history(cnn.history_)

# %%
# Every score has its bootstrap interval.

report = evaluate(cnn, X_test, y_test)
print(report)
plots.confusion_matrix(report)

# %%
# Is it as sure as it is right?

plots.reliability(report)

# %%
# The mistakes that it was surest of, each with its probabilities.

plots.mistakes(report, X_test, n=3)

# %%
# Grad-CAM: what speaks for the predicted class is bright.

plots.gradcam(cnn, X_test[0])
