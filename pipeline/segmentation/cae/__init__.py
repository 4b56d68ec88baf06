"""Context-aware embedding (CAE): a pixel's embedding takes in neighbours close in space and alike in appearance.

    a_pq = softmax over q in N(p), q != p, of  stopgrad(cos(s_p, s_q)) / tau - |p - q|^2 / (2 sigma^2)
    e_p  = normalise(F_p + gamma * BN(sum_q a_pq g(F_q)))

F is the decoder's map, s the appearance: F itself by default. The paper asks for a *non-trivial* use of neighbours.
Three guards are its reading here: a pixel is not its own neighbour, affinities carry no gradient (else the net can
satisfy them by making everything alike), and temperatures are not learned. Each guard can be lifted, so that its effect
can be measured.
"""

from pipeline.segmentation.cae.appearance import build_appearance
from pipeline.segmentation.cae.embedding import ContextAwareEmbedding

__all__ = ["ContextAwareEmbedding", "build_appearance"]
