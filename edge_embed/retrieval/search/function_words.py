"""Words that say nothing of what a question is about, as "how" and "of" do.

In a large collection their number of chunks shows it. A folder of twenty notes shows nothing: there "how" may
be as rare as the word that matters. The list leaves out what is a word of content in another language that it
covers, such as German "war" and "die", French "son", Spanish "sin".
"""

from __future__ import annotations

_ENGLISH = """
    a about after all also am an and any are as at be been being before both but by can could did do does
    doing for from had has have having he her here hers him his how i if in into is it its just me more
    most my no not of on or our out over own same she should so some such than that the their them then
    there these they this those to too under until up very was we were what when where which while who
    whom whose why will with would you your
"""
_GERMAN = """
    aber als am an auch auf aus bei bin bis das dass dem den der des dich dir doch du durch ein eine einem
    einen einer eines er es fur haben hat hatte ich ihm ihn ihr ihre im ist ja kann kein keine konnen mich
    mir mit muss nach nicht noch nur oder seine sich sie sind uber um und uns unter vom von vor wann warum
    wenn werden wer wie wieso wir wird wo wozu zu zum zur
"""
_FRENCH = """
    au aux avec ce ces cette comment dans de depuis des du elle elles en est et etait ete etre eux il ils
    je la le les leur leurs lui ma mais mes moi ne nos notre nous ont ou par parce pas peut pourquoi quand
    que quel quelle quelles quels qui quoi sa sans se ses sont sur ta te tes un une vos votre vous
"""
_SPANISH = """
    al como con cual cuales cuando cuanto de del desde donde el ella ellas ellos en era eres es esta estan
    este esto fue ha han hasta hay la las le les lo los mas mi mis muy nos o para pero por porque puede
    que quien se ser si sobre su sus tambien tiene un una unas unos y ya yo
"""

FUNCTION_WORDS = frozenset(" ".join((_ENGLISH, _GERMAN, _FRENCH, _SPANISH)).split())
"""All of them, folded as a query's words are."""
