"""The demo, `demo.run`: a year of flights sent through the whole loop, and a report of what each part did."""
