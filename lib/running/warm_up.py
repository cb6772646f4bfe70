"""Imported by the server of :mod:`lib.running.warm` before anything is forked from it."""

from lib.running.warm import warm_up

warm_up()
