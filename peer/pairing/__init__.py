"""Pairing ceremonies, sans I/O: time, random bytes and the answers of users are arguments.

    methods.py                    the closed registry: `Method`, one `MethodSpec` each
    label.py code.py sas.py compare.py button.py
                                  one method each: its device side and its client side
    sides.py one_shot.py          the steps that all sides share; the guard of these steps
    jpake.py schnorr.py p256.py   J-PAKE (RFC 8236), its proofs (RFC 8235) and its curve
    binding.py                    the transcript B, confirmation tags, receipts
    window.py                     the pairing window and the steps of its ceremonies
    window_lifecycle.py window_timer.py budget.py offer.py
                                  parts of a window: its closing, deadlines, attempts, offer
    ceremony.py ceremony_table.py one ceremony and its table of transitions; those of a window
    errors.py events.py           refusals with their reason; events for the audit trail
    names.py typed.py             user names; codes
    armour.py invite.py           the text of labels and invites; the token of an invite

Each claim has a hostile test: one live ceremony at a time; no client is registered without the
consent of both sides; a tag is not valid in another session, window, role or method, or for another
key; the device's tag is sent only after `Window.registered`, that is, after the commit.
"""
