package edgeembed.core

/** Words that say nothing of what a question is about; a test keeps them equal to Python's `function_words.py`. */
internal object FunctionWords {
    val ALL: Set<String> = """
        a aber about after al all als also am an and any are as at au auch auf aus aux avec be been before bei
        being bin bis both but by can ce ces cette comment como con could cual cuales cuando cuanto dans das
        dass de del dem den depuis der des desde dich did dir do doch does doing donde du durch ein eine einem
        einen einer eines el ella ellas elle elles ellos en er era eres es est esta estan este esto et etait
        ete etre eux for from fue fur ha haben had han has hasta hat hatte have having hay he her here hers
        him his how i ich if ihm ihn ihr ihre il ils im in into is ist it its ja je just kann kein keine
        konnen la las le les leur leurs lo los lui ma mais mas me mes mi mich mir mis mit moi more most muss
        muy my nach ne nicht no noch nos not notre nous nur o oder of on ont or ou our out over own par para
        parce pas pero peut por porque pourquoi puede quand que quel quelle quelles quels qui quien quoi sa
        same sans se seine ser ses she should si sich sie sind so sobre some sont su such sur sus ta tambien
        te tes than that the their them then there these they this those tiene to too uber um un una unas und
        under une unos uns unter until up very vom von vor vos votre vous wann warum was we wenn wer werden
        were what when where which while who whom whose why wie wieso will wir wird with wo would wozu y ya yo
        you your zu zum zur
    """.split(Regex("\\s+")).filter { it.isNotEmpty() }.toSet()
}
