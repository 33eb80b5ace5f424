"""Figures of trainings and models. Of the whole program, only this package imports matplotlib."""
