"""What a spec may say about each learner: the one table from a learner's name to its module, search space and parameters.

Read when a spec is checked, so it imports neither numpy nor any learner's library. `perennial.learner.load_learner` imports
the module that stands here.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

from pydantic import Field, model_validator

from perennial.base import FrozenModel

Params = dict[str, float | int | str | bool]  # parameters of a learner by name

AUTO = "auto"  # a spec's `learner` that leaves the choice to a comparison of all

PASSIVE_OPENMP = ("OMP_WAIT_POLICY", "passive")
"""Makes OpenMP's threads sleep, not spin, while they wait for one another; it is read once, when a learner's library is loaded.

On busy cores a spinning thread keeps the one it waits for from running: measured 10 to 30 times slower."""


class Range(FrozenModel):
    """A search range for one parameter of the learner, uniform or log-uniform."""

    low: float = Field(description="least value tried")
    high: float = Field(description="greatest value tried")
    log: bool = Field(False, description="draw on a log scale")
    integer: bool = Field(False, description="draw whole numbers")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"needs low < high, and low > 0 on a log scale; got {self.low} and {self.high}")
        return self


@dataclass(frozen=True)
class Declaration:
    """One learner: its module, a line for people, what a search tries by default, and every parameter a spec may name."""

    module: str
    what: str
    space: dict[str, Range]
    parameters: frozenset[str]

    @property
    def space_in_words(self) -> str:
        return ", ".join(f"`{name}` {span.low:g} to {span.high:g}" for name, span in self.space.items())


def named_learners(learner: str) -> tuple[str, ...]:
    """The learners that a spec's `learner` may come to: itself, or all of them for "auto"."""
    return tuple(LEARNERS) if learner == AUTO else (learner,)


def declaration(learner: str) -> Declaration:
    """What is declared of a learner; raises ValueError naming those there are."""
    if learner not in LEARNERS:
        raise ValueError(f"there is no learner {learner!r}; choose from {', '.join((*LEARNERS, AUTO))}")
    return LEARNERS[learner]


def refuse_foreign(learner: str, names: set[str]) -> None:
    """Raise ValueError when one of these is no parameter of the learner, with the nearest that is."""
    if learner == AUTO:
        if names:
            raise ValueError(
                f"search.space and search.params belong to one learner, and {', '.join(sorted(names))} stands beside "
                f'learner = "{AUTO}": leave it out, or name the learner'
            )
        return
    known = declaration(learner).parameters
    for name in sorted(names - known):
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known)[:8])}{', ...' * (len(known) > 8)}"
        raise ValueError(f"learner {learner!r} has no parameter {name!r} that a spec may set; {hint}")


_LIGHTGBM_PARAMETERS = """
alpha application auc_mu_weights bagging bagging_by_query bagging_fraction bagging_fraction_seed bagging_freq bagging_seed
bin_construct_sample_cnt boost boost_from_average boosting boosting_type bundle cat_l2 cat_smooth cegb_penalty_feature_coupled
cegb_penalty_feature_lazy cegb_penalty_split cegb_tradeoff colsample_bynode colsample_bytree data_random_seed
data_sample_strategy data_seed deterministic device device_type drop_rate drop_seed early_stopping_min_delta enable_bundle
enable_sparse eta extra_seed extra_tree extra_trees fair_c feature_contri feature_contrib feature_fraction
feature_fraction_bynode feature_fraction_seed feature_penalty force_col_wise force_row_wise fp gpu_device_id gpu_platform_id
gpu_use_dp interaction_constraints is_enable_bundle is_enable_sparse is_sparse is_unbalance l1_regularization
l2_regularization lambda lambda_l1 lambda_l2 learning_rate linear_lambda linear_tree linear_trees loss max_bin
max_bin_by_feature max_bins max_cat_threshold max_cat_to_onehot max_delta_step max_depth max_drop max_leaf max_leaf_nodes
max_leaf_output max_leaves max_tree_output mc mc_method mc_penalty min_child_samples min_child_weight min_data min_data_in_bin
min_data_in_leaf min_data_per_group min_data_per_leaf min_gain_to_split min_hessian min_samples_leaf min_split_gain
min_sum_hessian min_sum_hessian_in_leaf min_sum_hessian_per_leaf monotone_constraining_method monotone_constraint
monotone_constraints monotone_constraints_method monotone_penalty monotone_splits_penalty monotonic_cst neg_bagging
neg_bagging_fraction neg_sub_row neg_subsample num_grad_quant_bins num_leaf num_leaves num_thread num_threads nthread nthreads
n_jobs objective objective_seed objective_type other_rate path_smooth poisson_max_delta_step pos_bagging pos_bagging_fraction
pos_sub_row pos_subsample quant_train_renew_leaf rate_drop reg_alpha reg_lambda reg_sqrt scale_pos_weight shrinkage_rate sigmoid
skip_drop sparse stochastic_rounding sub_feature sub_feature_bynode sub_row subsample subsample_for_bin subsample_freq top_k
top_rate topk tree tree_learner tree_learner_type tree_type tweedie_variance_power unbalance unbalanced_sets uniform_drop
use_missing use_quantized_grad xgboost_dart_mode zero_as_missing
"""
"""LightGBM's own names and aliases of what shapes a training in memory: neither files, network, metric, number of classes,
seed and verbosity, which the caller decides, nor the rounds, bounded by
`search.max_rounds`. A test compares them to LightGBM's."""

_HIST_BOOSTING_PARAMETERS = """
interaction_cst l2_regularization learning_rate max_bins max_depth max_features max_leaf_nodes min_samples_leaf
"""
"""scikit-learn's own names of what shapes a training, but for what the caller decides: loss, rounds, stopping, seed. A test
compares them to scikit-learn's."""

LEARNERS = {
    "lightgbm": Declaration(
        module="perennial.learners.lightgbm",
        what="gradient-boosted trees",
        space={
            "learning_rate": Range(low=0.03, high=0.2, log=True),
            "num_leaves": Range(low=8, high=96, log=True, integer=True),
            "min_child_samples": Range(low=10, high=300, log=True, integer=True),
            "colsample_bytree": Range(low=0.5, high=1.0),
            "reg_lambda": Range(low=0.001, high=30.0, log=True),
        },
        parameters=frozenset(_LIGHTGBM_PARAMETERS.split()),
    ),
    "hist_boosting": Declaration(
        module="perennial.learners.hist_boosting",
        what="gradient-boosted trees by scikit-learn's histogram boosting",
        space={
            "learning_rate": Range(low=0.03, high=0.2, log=True),
            "max_leaf_nodes": Range(low=8, high=96, log=True, integer=True),
            "min_samples_leaf": Range(low=10, high=300, log=True, integer=True),
            "max_features": Range(low=0.5, high=1.0),
            "l2_regularization": Range(low=0.001, high=30.0, log=True),
        },
        parameters=frozenset(_HIST_BOOSTING_PARAMETERS.split()),
    ),
    "linear": Declaration(
        module="perennial.learners.linear",
        what="logistic or ridge regression, a fallback for few rows and a check that the trees earn their place",
        space={"alpha": Range(low=0.01, high=1000.0, log=True)},
        parameters=frozenset({"alpha"}),
    ),
}
"""Every learner by the name that a spec's `learner` gives it."""
