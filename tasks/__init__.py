"""The steps of the flows: plain functions, each made a Prefect task by a decorator of `task_defaults`.

`job` (what a flow run works on), `task_defaults` (retries and caching) and `hooks` (run names, failures) stand at the top;
`data` reads and checks tables, `training` makes a model of them, `promotion` publishes and judges it, `reporting` shows
people what came of it, and `serving` works with the model that serves. A room imports only from those named before it.
"""
