"""The service's processes: started through LitServe, supervised by the main process, ended in order."""
