"""The seed system (23rd of 1,433, testB 0.628): language model and word BiLSTM, a BiLSTM over boxes, an MLP on both."""

from multimodal_recall.config.systems import TwoTowerOptions
from multimodal_recall.models.indexable import ConcatRanker
from multimodal_recall.models.layers.heads import ConcatMlp
from multimodal_recall.models.layers.towers import BoxLstm, LabelVectors, SentenceAndWords, WordVectors
from multimodal_recall.models.layers.transformer import BoxTransformer, SentenceAndWordTransformer, Transformer
from multimodal_recall.models.ranker import InputSizes


class TwoTower(ConcatRanker):
    """Compare a query vector and an image vector by an MLP on both."""

    def __init__(self, options: TwoTowerOptions, sizes: InputSizes) -> None:
        super().__init__()
        words = WordVectors(sizes.words, sizes.word_vector)
        labels = LabelVectors(sizes.labels, sizes.word_vector)
        depth = options.transformer_layers, options.transformer_heads, options.dropout
        if options.words == "lstm":
            self.query_encoder = SentenceAndWords(sizes.query_vector, words, options.word_state)
        else:
            layers = Transformer(options.word_state, *depth)
            self.query_encoder = SentenceAndWordTransformer(sizes.query_vector, words, layers)
        if options.boxes == "lstm":
            self.image_encoder = BoxLstm(sizes.box_feature, labels, options.image_state)
        else:
            self.image_encoder = BoxTransformer(sizes.box_feature, labels, Transformer(options.image_state, *depth))
        self.head = ConcatMlp(self.query_encoder.size, self.image_encoder.size, options.head_state, options.dropout)


build = TwoTower
