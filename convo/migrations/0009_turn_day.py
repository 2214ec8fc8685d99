import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('convo', '0008_view_content'),
    ]

    operations = [
        migrations.AddField(
            model_name='turn',
            name='hot',
            field=models.BooleanField(blank=True, help_text="Was the transcript's end at hand in the cache? Null: not looked for.", null=True),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('started_at__isnull', False)), fields=['started_at'], name='turn_by_beginning'),
        ),
        migrations.CreateModel(
            name='TalliedDay',
            fields=[
                ('day', models.DateField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name='Tally',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('agent', models.CharField(max_length=100)),
                ('model', models.CharField(blank=True, max_length=200)),
                ('sums', models.JSONField(help_text='Numbers that can be added up; see convo/usage/values.py.')),
                ('day', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tallies', to='convo.talliedday')),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name_plural': 'tallies',
            },
        ),
        migrations.AddIndex(
            model_name='tally',
            index=models.Index(fields=['owner', 'day'], name='tally_by_owner'),
        ),
    ]
