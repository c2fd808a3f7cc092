"""Every layer of the table converts with its options and weights; what tf_keras does not have is refused."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.keras3 import layers, table
from tests.keras3.networks import K, L, check, keras_3, lively, of_layer

MAP, SERIES, VOLUME, VECTOR = (8, 8, 4), (9, 4), (6, 6, 6, 2), (6,)
LAYERS = [
    (lambda: L.Conv2D(6, 3, strides=2, padding="same", activation="relu"), MAP),
    (lambda: L.Conv2D(6, 3, groups=2, dilation_rate=2), MAP),
    (lambda: L.Conv2D(6, 3, data_format="channels_last", kernel_initializer="he_normal"), MAP),
    (lambda: L.Conv1D(6, 3, padding="causal", activation="silu"), SERIES),
    (lambda: L.Conv3D(3, 3), VOLUME),
    (lambda: L.Conv2DTranspose(5, 3, strides=2, padding="same"), MAP),
    (lambda: L.Conv2DTranspose(5, 3, strides=2, padding="valid", output_padding=1), MAP),
    (lambda: L.Conv1DTranspose(5, 4, strides=2), SERIES),
    (lambda: L.Conv3DTranspose(2, 2, strides=2), VOLUME),
    (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, strides=2), MAP),
    (lambda: L.DepthwiseConv1D(3, depth_multiplier=2), SERIES),
    (lambda: L.SeparableConv2D(6, 3, depth_multiplier=2, activation="gelu"), MAP),
    (lambda: L.SeparableConv1D(6, 3), SERIES),
    (lambda: L.Dense(5, activation="tanh"), SERIES),
    (lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"), SERIES),
    (lambda: L.BatchNormalization(scale=False, epsilon=1e-2), MAP),
    (lambda: L.BatchNormalization(axis=1, center=False), MAP),
    (lambda: L.BatchNormalization(), VECTOR),
    (lambda: L.LayerNormalization(axis=(1, 2)), MAP),
    (lambda: L.GroupNormalization(2), MAP),
    (lambda: L.UnitNormalization(), MAP),
    (lambda: L.SpectralNormalization(L.Conv2D(4, 3)), MAP),
    (lambda: L.PReLU(shared_axes=(1, 2)), MAP),
    (lambda: L.ELU(0.5), MAP),
    (lambda: L.LeakyReLU(0.17), MAP),
    (lambda: L.ReLU(max_value=4.0, negative_slope=0.1, threshold=0.2), MAP),
    (lambda: L.Softmax(axis=1), MAP),
    (lambda: L.Activation("softplus"), MAP),
    (lambda: L.AveragePooling2D(3, strides=1, padding="same"), MAP),
    (lambda: L.AveragePooling1D(2), SERIES),
    (lambda: L.AveragePooling3D(2), VOLUME),
    (lambda: L.MaxPooling2D(3, strides=2), MAP),
    (lambda: L.GlobalAveragePooling2D(keepdims=True), MAP),
    (lambda: L.GlobalMaxPooling2D(), MAP),
    (lambda: L.GlobalAveragePooling1D(), SERIES),
    (lambda: L.GlobalMaxPooling3D(), VOLUME),
    (lambda: L.UpSampling2D(2, interpolation="bilinear"), MAP),
    (lambda: L.UpSampling1D(3), SERIES),
    (lambda: L.ZeroPadding2D(((1, 2), (0, 3))), MAP),
    (lambda: L.ZeroPadding1D((1, 2)), SERIES),
    (lambda: L.Cropping2D(((1, 2), (0, 3))), MAP),
    (lambda: L.Cropping1D((1, 2)), SERIES),
    (lambda: L.Permute((3, 1, 2)), MAP),
    (lambda: L.Reshape((-1, 8)), MAP),
    (lambda: L.RepeatVector(3), VECTOR),
    (lambda: L.Identity(), MAP),
    (lambda: L.Dropout(0.5, noise_shape=(None, 1, 1, 4), seed=3), MAP),
    (lambda: L.SpatialDropout2D(0.5), MAP),
    (lambda: L.SpatialDropout1D(0.5), SERIES),
    (lambda: L.GaussianNoise(0.5), MAP),
    (lambda: L.GaussianDropout(0.5), MAP),
    (lambda: L.AlphaDropout(0.5), MAP),
    (lambda: L.ActivityRegularization(l2=0.5), MAP),
    (lambda: L.Rescaling(1 / 127.5, offset=-1), MAP),
    (lambda: L.Rescaling([0.1, 0.2, 0.3, 0.4], offset=[1, 2, 3, 4]), MAP),
    (lambda: L.Normalization(), MAP),
    (lambda: L.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 4, 9, 16]), MAP),
    (lambda: L.Normalization(axis=None), VECTOR),
    (lambda: L.Resizing(5, 6), MAP),
    (lambda: L.Resizing(16, 12, interpolation="nearest"), MAP),
    (lambda: L.Resizing(5, 4, crop_to_aspect_ratio=True), MAP),
    (lambda: L.CenterCrop(5, 4), MAP),
    (lambda: L.RandomFlip("horizontal"), MAP),
    (lambda: L.RandomRotation(0.1, fill_mode="constant", fill_value=1.0), MAP),
    (lambda: L.RandomTranslation(0.1, 0.1), MAP),
    (lambda: L.RandomZoom(0.1), MAP),
    (lambda: L.RandomContrast(0.1), MAP),
    (lambda: L.RandomBrightness(0.1), (8, 8, 3)),
    (lambda: L.Masking(0.0), SERIES),
    (lambda: L.LSTM(5, return_sequences=True), SERIES),
    (lambda: L.LSTM(5, return_sequences=True, zero_output_for_mask=True), SERIES),
    (lambda: L.LSTM(5, use_bias=False, go_backwards=True, activation="relu"), SERIES),
    (lambda: L.GRU(5), SERIES),
    (lambda: L.GRU(5, reset_after=False), SERIES),
    (lambda: L.SimpleRNN(5), SERIES),
    (lambda: L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.GRUCell(4)])), SERIES),
    (lambda: L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode="sum"), SERIES),
    (lambda: L.Bidirectional(L.LSTM(3), backward_layer=L.GRU(3, go_backwards=True)), SERIES),
    (lambda: L.ConvLSTM1D(3, 3), (4, 9, 2)),
    (lambda: L.TimeDistributed(L.Conv2D(3, 3)), (4, 8, 8, 2)),
    (lambda: L.TimeDistributed(L.BatchNormalization()), (4, 8, 2)),
]
MERGES = [
    lambda: L.Add(),
    lambda: L.Subtract(),
    lambda: L.Multiply(),
    lambda: L.Average(),
    lambda: L.Maximum(),
    lambda: L.Minimum(),
    lambda: L.Concatenate(axis=1),
    lambda: L.Dot(axes=(2, 2), normalize=True),
    lambda: L.Attention(use_scale=True, score_mode="dot"),
    lambda: L.AdditiveAttention(),
]


def name_of(make):
    return make[0] if isinstance(make, str) else type(make()).__name__


@pytest.mark.parametrize("make, shape", LAYERS, ids=[f"{i}-{name_of(m)}" for i, (m, _) in enumerate(LAYERS)])
def test_a_layer_has_the_same_name_options_weights_and_answers(make, shape):
    layer = make()
    model = of_layer(layer, shape)
    new = check(model)
    same = new.get_layer(layer.name)
    assert type(same).__name__ == type(layer).__name__ and same.dtype == "float32"
    old = {w.name: np.asarray(w) for w in layer.weights}
    if len(old) == len(layer.weights):  # names tell them apart
        for weight in same.weights:
            name = weight.name.rpartition("/")[2].partition(":")[0]
            if name in old:
                np.testing.assert_array_equal(weight.numpy(), old[name])


@pytest.mark.parametrize("make", MERGES, ids=name_of)
def test_layers_of_two_inputs(make):
    check(of_layer(make(), SERIES, SERIES))


def test_attention_with_heads_and_its_arguments():
    query, value = keras_3.Input((5, 4)), keras_3.Input((7, 4))
    attended = L.MultiHeadAttention(2, 3)(query, value, use_causal_mask=False)
    check(lively(keras_3.Model([query, value], attended)))


def test_embedding_with_a_mask_and_integers():
    tokens = keras_3.Input((9,), dtype="int32")
    x = L.Embedding(7, 4, mask_zero=True)(tokens)
    model = lively(keras_3.Model(tokens, L.LSTM(3)(x)))
    new = check(model, np.random.default_rng(0).integers(0, 7, (4, 9)).astype("int32"))
    assert new.layers[1].mask_zero and new.inputs[0].dtype == "int32"


def test_discretization_and_category_encoding():
    x = L.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])(numbers := keras_3.Input((3,)))
    check(keras_3.Model(numbers, L.CategoryEncoding(4, output_mode="multi_hot")(x)))


def test_layers_inside_of_time_distributed_models():
    inner_input = keras_3.Input((8, 8, 2))
    x = L.BatchNormalization()(L.Conv2D(3, 3)(inner_input))
    inner = keras_3.Model(inner_input, L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(x)), name="inner")
    check(of_layer(L.TimeDistributed(inner), (3, 8, 8, 2)))


def test_training_options_stay():
    layer = L.Conv2D(
        3,
        3,
        kernel_regularizer=keras_3.regularizers.L2(0.25),
        kernel_constraint="max_norm",
        kernel_initializer="he_normal",
    )
    layer.trainable = False
    new = check(of_layer(layer, MAP)).layers[1]
    assert float(new.kernel_regularizer.l2) == 0.25 and type(new.kernel_constraint).__name__ == "MaxNorm"
    assert type(new.kernel_initializer).__name__ == "HeNormal" and not new.trainable
    assert check(of_layer(L.BatchNormalization(momentum=0.5), MAP)).layers[1].momentum == 0.5


def test_lambda_and_python_functions_run_on_tensorflow():
    check(of_layer(L.Lambda(lambda x, by: x * by, arguments={"by": 3.0}), MAP))
    new = check(of_layer(L.Conv2D(3, 3, activation=lambda x: K.minimum(x, 1.5), name="c"), MAP))
    assert isinstance(new.get_layer("c_activation"), keras.layers.Lambda)


def test_the_layers_of_keras_own_networks():
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    check(of_layer(LayerScale(0.5, 4), MAP))
    check(of_layer(StochasticDepth(0.5), MAP))
    new = check(of_layer(CustomScaleLayer(0.17, name="scaled"), MAP, MAP))
    assert [layer.name for layer in new.layers[2:]] == ["scaled_scale", "scaled"]


class Mine(L.Layer):
    def call(self, x):
        return x


class MyConv(L.Conv2D):
    pass


@keras_3.saving.register_keras_serializable()
def my_regularizer(x):
    return 0.01 * K.sum(K.abs(x))


REFUSED = [
    (lambda: Mine(name="a"), MAP, "layer 'a' of type Mine: a class of .*, which tf_keras does not know; write it with"),
    (lambda: MyConv(3, 3), MAP, "of type MyConv: a class of"),
    (lambda: L.RandomHue(0.1), (8, 8, 3), "of type RandomHue: tf_keras has no such layer"),
    (lambda: L.RandomCrop(5, 5), MAP, "of type RandomCrop: tf_keras crops otherwise at inference; crop in the data"),
    (lambda: L.RMSNormalization(), MAP, "of type RMSNormalization: tf_keras has no such layer"),
    (lambda: L.Resizing(4, 4, antialias=True), MAP, "tf_keras' Resizing has no option antialias .here True.; leave it"),
    (
        lambda: L.LSTM(3, recurrent_activation="hard_sigmoid"),
        SERIES,
        "recurrent_activation is 'hard_sigmoid'; use one of",
    ),
    (lambda: L.GRU(3, activation="hard_tanh"), SERIES, "activation is 'hard_tanh'; use one of"),
    (lambda: L.Conv2D(3, 3, kernel_regularizer=my_regularizer), MAP, "its kernel_regularizer is .* leave it out"),
    (
        lambda: L.TimeDistributed(L.Dense(3, activation="hard_silu")),
        SERIES,
        "inside of it is no single layer in tf_keras",
    ),
]


@pytest.mark.parametrize("make, shape, message", REFUSED, ids=lambda v: v if isinstance(v, str) else None)
def test_what_has_no_counterpart_is_one_line(make, shape, message):
    with pytest.raises(ValueError, match=message) as caught:
        keras_dbq.from_keras3(of_layer(make(), shape))
    assert "\n" not in str(caught.value)


def test_a_model_quantized_by_keras_is_refused():
    model = of_layer(L.Dense(4), VECTOR)
    model.quantize("int8")
    with pytest.raises(
        ValueError, match="it was quantized by Keras .int8_from_float32.; give the model as it was before"
    ):
        keras_dbq.from_keras3(model)


def test_unknown_options_are_refused_whatever_their_value(monkeypatch):
    """An option that a later Keras 3 brings."""
    layer = L.Dense(3)
    config = layer.get_config()
    monkeypatch.setattr(layer, "get_config", lambda: {**config, "squared": False})
    with pytest.raises(ValueError, match="has no option squared .here False."):
        keras_dbq.from_keras3(of_layer(layer, VECTOR))


def test_every_layer_of_the_table_is_tried():
    tried = {type(make()).__name__ for make, *_ in LAYERS} | {type(make()).__name__ for make in MERGES}
    here = {"MultiHeadAttention", "Embedding", "Discretization", "CategoryEncoding", "Flatten"}
    inside = {"LSTMCell", "GRUCell", "SimpleRNNCell", "StackedRNNCells"}
    by_rank = {name for name in table.LAYERS if name[-1] == "D" and any(name[:-2] == t[:-2] for t in tried)}
    assert set(table.LAYERS) == (tried | here | inside | by_rank) & set(table.LAYERS)
    assert layers.counterpart.__doc__
