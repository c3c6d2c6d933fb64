"""None: the unedited model, the row that every table begins with."""
