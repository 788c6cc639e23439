"""Pages that need nothing else: safe HTML, one style, small charts. The data report and the run report are made of it."""
