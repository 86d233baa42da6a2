"""What releases cost together: one accountant, from receipts, in two ways of counting.

`event` reads a receipt under an assumption about who colludes, `rdp` bounds its Renyi divergence
with the standard library alone, `filter` enforces a cap at one fixed order (sound when later
releases depend on earlier ones), `pld` reports the loss of what was really released, and
`calibrate` finds the noise for a wanted epsilon. All of it is add/remove: neighbours differ by all
that one unit owns. Every figure is rounded towards more privacy.
"""
