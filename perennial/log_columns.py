"""The columns that the prediction log adds to a model's own: the names under which rows, scores and labels are stored.

A name here starts with PREFIX, and the spec refuses a column that does, so a model's columns and these never meet
(tests/perennial/test_spec.py). The reference sample beside a model uses the same names for event time and score.
"""

PREFIX = "_"  # with this a column of the log starts, and no column of a spec may
ID = "_id"  # the prediction's id, as the client calls it
DIGEST = "_digest"  # a digest of the row's values: with id and event time it is the row's own key
EVENT_TIME = "_event_time"  # when the prediction was asked; beside a label, when the truth became known, if the client said so
SERVED_AT = "_served_at"  # when the service answered, in wall time
VERSION = "_version"  # the model version that answered
SCORE = "_score"  # probability of the positive class, value, or one probability per class
LABEL = "_label"  # the truth, in the one type that the task's labels are stored in
RECEIVED_AT = "_received_at"  # when the service received the label, in wall time
