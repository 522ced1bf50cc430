"""The demo, `demo.run_demo`: a year of flights sent through the whole loop, and a report of what each component did."""
