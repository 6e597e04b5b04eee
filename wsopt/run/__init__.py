"""A run: the loop, the journal, resume, export."""

from wsopt.run._execute import Request, execute
from wsopt.run._folder import RunFolder
from wsopt.run._plan import Plan, make_plan
from wsopt.run._sources import trained_set

__all__ = ["Plan", "Request", "RunFolder", "execute", "make_plan", "trained_set"]
