"""How many kernels, and how large
===============================

A grid search over the kernels of a small convolutional network, and its effect as a chart. The
cells are synthetic.
"""

from sklearn.model_selection import GridSearchCV, StratifiedKFold

from kmedclf import CNNClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import plots

X, y = make_blood_cells(400, random_state=0)

# %%
# Three stratified folds score every candidate. Whiskers are the standard deviation over the folds.

cnn = CNNClassifier(recipe="fast", epochs=6, random_state=0)
grid = {"filters": [4, 16], "kernel_size": [3, 5]}
folds = StratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(cnn, grid, cv=folds, refit=False).fit(X, y)
plots.effect(search.cv_results_, "filters", by="kernel_size", log_x=True)
print(search.best_params_)
