"""What a spec of an unknown table could say: `propose` looks at the table, `pace` at how many rows come when."""
