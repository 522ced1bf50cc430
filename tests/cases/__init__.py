"""Tables of other people: inputs that once went wrong, and tests of what is right for them and for their siblings."""
