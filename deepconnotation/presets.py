"""The nets and settings of the original projects, as arguments of train (shared facts B to E).

What a project's papers and code do not say is left at train's own default.
"""

PRESETS = {
    "deepconnotation-resnet": (
        "--arch resnet18 --optimizer adam --rate 1e-3 --schedule constant --warmup 0 --batch 200 "
        "--epochs 200 --plateau 5 --patience 10 --dropout 0.01 --l2 1e-4 --shift 0.1 --clip 0"
    ),
    "deepconnotation-fractal": (
        "--arch fractal --optimizer adam --rate 1e-3 --schedule constant --warmup 0 --batch 100 "
        "--epochs 400 --no-flip --shift 0 --clip 0"
    ),
    "affectnet-vgg16": (
        "--arch vgg16 --weights imagenet --pooling flatten --head 4096 --dropout 0 --l2 0 "
        "--freeze-until block3 --optimizer adam --rate 1e-4 --schedule constant --warmup 0 "
        "--batch 64 --epochs 3 --rotate 45 --shift 0 --clip 0 "
        "--class-weights .1,.1,.5,.5,.8,.99,.5,.99"
    ),
    "emotion-image-vgg": (
        "--arch vgg --l2 0 --optimizer adam --rate 1e-3 --schedule constant --warmup 0 --batch 64 "
        "--epochs 5 --no-flip --shift 0 --clip 0 --class-weights effective:.9999"
    ),
    "emotion-image-resnet50": (
        "--arch resnet50_imagenet --weights imagenet --dropout 0 --l2 0 "
        "--freeze-until conv4_block6_3_bn --optimizer adam --rate 1e-3 --schedule constant "
        "--warmup 0 --batch 64 --epochs 5 --no-flip --shift 0 --clip 0"
    ),
    "facial-expressions-cnn": (
        "--arch small_cnn --dropout 0 --l2 0 --optimizer adam --rate 1e-3 --schedule constant "
        "--warmup 0 --batch 16 --epochs 12 --zoom 0.2 --shift 0 --clip 0"
    ),
}
