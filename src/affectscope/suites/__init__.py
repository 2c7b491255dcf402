"""Behaviour suites: does the state cause it?"""
