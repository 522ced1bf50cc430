"""`perennial doctor`: `doctor.examine` finds damaged files, `doctor.mend` repairs them; each kind has a module."""
