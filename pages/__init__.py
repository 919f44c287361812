"""The pages for people, with the functions of the API. No package below imports this one."""
