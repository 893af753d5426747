"""Pairing ceremonies, sans I/O: time, random bytes and people's answers come in as arguments.

    binding.py    what both sides have in common: transcript B, confirmation tags (protocol §5)
    names.py      which names a user may have
    ceremony.py   the values: stages and their table, one ceremony
    errors.py     what refuses a step        events.py   what the audit log records
    sides.py      the device's side of a method
    budget.py     attempts since the last success, and the back-off (protocol §4)
    window_timer.py  when a window closes, and how long its port lingers
    window.py     the pairing window: the only thing here that changes
    methods.py    both sides of every method, as window and client drive them

Methods, one file each, with one class per side: compare.py (`button` has nothing else), sas.py,
code.py over jpake.py, schnorr.py and p256.py, label.py. Texts and tokens: armour.py, invite.py,
typed.py.

The claims, each with a hostile test: one live ceremony at a time; nobody is registered without the
yes of both sides; a tag is worth nothing in another session, window, role, method or for another
key; the device's tag leaves only after `Window.registered`, that is after the commit.

A further method is one more file with a class for each side, and its fields in `methods.py`.
"""
